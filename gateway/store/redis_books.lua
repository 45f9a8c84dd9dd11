-- The books in Redis: one script for every step, so that each is carried out whole or not at all.
--
-- KEYS: epoch, holds, owners, outbox, hours, days, then all that the operations touch. ARGV[1]: JSON {token, owner, acked, seq,
-- force, a = {account -> index of its key}, terms, bills, hours, ops}; ARGV[2...]: texts. What operations have alike they name by its
-- index (``redis_script.py`` says what is in it). The answer holds one array for each operation: its status, then strings; or
-- {"recover"} alone, when these are not the books that the caller knows.
--
-- A Lua number is a double, exact up to 2^53 nano-dollars: no claim is larger. Sums may be: what is spent and held is a decimal string
-- from end to end, a number to compare and never to store. Each operation checks everything before it changes anything.

local EPOCH, HOLDS, OWNERS, OUTBOX, HOURS, DAYS = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local LARGEST = 4611686018427387904  -- 2^62: an account past it fails closed
local args = cjson.decode(ARGV[1])
local clock = redis.call('TIME')
local now_ms = clock[1] * 1000 + math.floor(clock[2] / 1000)

if not args.force then
  local known = redis.call('HMGET', EPOCH, 'token', 'q:' .. args.owner)
  if known[1] ~= args.token or tonumber(known[2] or '0') < args.acked then return {{'recover', known[1] or ''}} end
end

local function number(text) return tonumber(text or '0') or 0 end

local TERMS = args.terms
for _, terms in ipairs(TERMS) do
  terms.limit, terms.forgiven = terms.l and number(terms.l), number(terms.f)
  for _, threshold in ipairs(terms.n) do threshold.spent = number(threshold[2]) end
end

-- The claims of a call have few amounts, and few more times: each is written once.
local texts = {}
local function text(value)
  local found = texts[value]
  if not found then
    found = string.format('%.0f', value)
    texts[value] = found
  end
  return found
end

local function negative(amount)
  if string.sub(amount, 1, 1) == '-' then return string.sub(amount, 2) end
  return amount == '0' and amount or '-' .. amount
end
local function key(account) return KEYS[args.a[account]] end

-- Read once: {s spent, h held} to compare, and ``texts`` of them to tell. What is moved meanwhile is known, too, as long as a double
-- has it exactly.
local EXACT = 9007199254740992
local balances = {}
local function balance(account)
  local found = balances[account]
  if not found then
    local pair = redis.call('HMGET', key(account), 's', 'h')
    found = {s = number(pair[1]), h = number(pair[2]), texts = {s = pair[1] or '0', h = pair[2] or '0'}}
    balances[account] = found
  end
  return found
end

local function told(found, field) return found.texts[field] or string.format('%.0f', found[field]) end

local function move(account, field, amount)
  local after = redis.call('HINCRBY', key(account), field, amount)
  local found = balances[account]
  if not found or not found[field] then return end
  if math.abs(after) < EXACT then found[field], found.texts[field] = after, nil else balances[account] = nil end
end

-- Accounts that a hold or a lost record names and the caller did not: it asks again with their keys.
local function unknown(accounts)
  local missing = {}
  for _, account in ipairs(accounts) do
    if not args.a[account] then missing[#missing + 1] = account end
  end
  return missing
end

local function hold_of(call_id)
  local granted = redis.call('HGET', HOLDS, call_id)
  return granted and cjson.decode(granted) or nil
end

local function accounts_of(hold)
  local found = {}
  for _, part in ipairs(hold and hold.p or {}) do found[#found + 1] = part[1] end
  for _, use in ipairs(hold and hold.u or {}) do found[#found + 1] = use[1] end
  return found
end

-- Asked once a run: the first time of the first operation stays. What is over already goes at once, and may come anew.
local lasting = {}
local function last_until(account, ends_at)
  if ends_at == 0 or lasting[account] then return end
  if redis.call('HSETNX', key(account), 'e', text(ends_at)) == 1 then
    redis.call('EXPIREAT', key(account), text(ends_at))
  end
  lasting[account] = ends_at * 1000 > now_ms
  if not lasting[account] then balances[account] = nil end
end

-- The same of records, lists and sums. Whoever takes something out of them empties ``expires``: a key that is empty is gone.
local expires = {}
local function expire(index, ends_at)
  if expires[index] == ends_at then return end
  local is_there = redis.call('EXPIREAT', KEYS[index], text(ends_at)) == 1
  expires[index] = is_there and ends_at * 1000 > now_ms and ends_at or nil
end

local function cross(crossed, limit, percent, spent)
  local threshold = percent .. ':' .. limit.of .. ':' .. (limit.f or '0')  -- another limit is another threshold
  if redis.call('HSETNX', key(limit.c), 'n:' .. threshold .. ':' .. limit.b, args.owner) == 1 then
    local id = limit.c .. '\31' .. threshold .. '\31' .. limit.b
    redis.call('HSET', OUTBOX, id, cjson.encode({limit.c, limit.b, percent, limit.of, spent, args.owner, limit.f or '0'}))
    crossed[#crossed + 1] = id
  end
end

-- What is spent of limits, where one of them is past, and the thresholds that are crossed; nothing of either is the usual.
local function reached(limits)
  local crossed, is_past = {}, false
  for _, at in ipairs(limits) do
    local limit = TERMS[at]
    local found = balance(limit.c)
    if limit.limit and found.s >= limit.limit then is_past = true end
    for _, threshold in ipairs(limit.n) do
      if found.s >= threshold.spent and not threshold.is_asked then
        cross(crossed, limit, threshold[1], told(found, 's'))
        threshold.is_asked = true
      end
    end
  end
  if #crossed == 0 and not is_past then return {'ok'} end
  local spent = {}
  for index, at in ipairs(limits) do spent[index] = told(balance(TERMS[at].c), 's') end
  return {'ok', '[' .. table.concat(spent, ',') .. ']', unpack(crossed)}
end

-- What is in the way of these claims: {status, index, spent, held, needed}; nil when nothing is.
local function in_the_way(claims, amounts)
  local asked, waiting = {}, nil
  for index, at in ipairs(claims) do
    local claim = TERMS[at]
    asked[claim.c] = (asked[claim.c] or 0) + amounts[index]
    if claim.limit then
      local found, needed = balance(claim.c), asked[claim.c]
      local counted = math.max(found.s, claim.forgiven)  -- as ``Claim.counted``
      if counted + needed > claim.limit then
        local answer = {'exceeded', text(index - 1), told(found, 's'), told(found, 'h'), text(needed)}
        if claim.h then cross(answer, claim, 100, told(found, 's')) end
        return answer
      end
      if not waiting and counted + found.h + needed > claim.limit then
        waiting = {'held', text(index - 1), told(found, 's'), told(found, 'h'), text(needed)}
      end
    end
  end
  return waiting
end

local function too_large(claims, amounts)
  for index, at in ipairs(claims) do
    local found = balance(TERMS[at].c)
    if found.s + amounts[index] > LARGEST or found.h + amounts[index] > LARGEST then return true end
  end
end

-- Limits, as ``limits.py`` has them: a level and when that was, in parts of which a request or a token has 60,000, so that a limit
-- leaks as many parts a millisecond as it lets through in a minute. Calls in flight are only counted.
local PARTS, PLACES_KEPT_MS, PLACE_RETRY_MS = 60000, 604800000, 500
local function is_places(name) return string.sub(name, 1, 17) == 'limit:concurrent:' end

-- Read once: many calls of one run are of one team.
local levels = {}
local function level_of(name, allowed)
  if not levels[name] then
    local level, at = string.match(redis.call('GET', key(name)) or '', '^(%d+) (%d+)$')
    levels[name] = {number(level), number(at)}
  end
  local level, at = unpack(levels[name])
  if is_places(name) then return level end
  return math.max(0, level - math.max(0, now_ms - at) * allowed)
end

local function set_level(name, allowed, level)
  levels[name] = {level, now_ms}
  local kept_ms = is_places(name) and PLACES_KEPT_MS or math.ceil(level / allowed)
  if level == 0 then kept_ms = 1 end
  redis.call('SET', key(name), text(level) .. ' ' .. text(now_ms), 'PX', text(kept_ms))
end

-- The limit that has no room for the longest time: {status, index, used, wait}; nil when all have.
local function limited(uses)
  local longest, answer = 0, nil
  for index, use in ipairs(uses or {}) do
    local amount, allowed = number(use[2]), number(use[3])
    local places = is_places(use[1])
    local parts = places and 1 or PARTS
    local level = level_of(use[1], allowed)
    local over = level + (amount - allowed) * parts
    local wait = over <= 0 and 0 or places and PLACE_RETRY_MS or math.ceil(over / allowed)
    if amount > allowed then wait = LARGEST end
    if wait > longest then
      longest = wait
      answer = {'limited', text(index - 1), text(math.ceil(level / parts)), text(wait)}
    end
  end
  return answer
end

-- What of it ends with the hold, as the hold keeps it; nil for nothing.
local function take(uses)
  local ending = {}
  for _, use in ipairs(uses or {}) do
    local allowed = number(use[3])
    local parts = is_places(use[1]) and 1 or PARTS
    set_level(use[1], allowed, level_of(use[1], allowed) + number(use[2]) * parts)
    if string.sub(use[1], 1, 15) ~= 'limit:requests_' then ending[#ending + 1] = use end
  end
  return #ending > 0 and ending or nil
end

local function give_back(uses, tokens)
  for _, use in ipairs(uses or {}) do
    local amount, allowed = number(use[2]), number(use[3])
    local more = 0
    if is_places(use[1]) then more = -amount elseif tokens then more = (tokens - amount) * PARTS end
    if more ~= 0 then set_level(use[1], allowed, math.max(0, level_of(use[1], allowed) + more)) end
  end
end

-- [spent, held, spent, held...] of the accounts of these claims, as they are now.
local function balances_of(claims)
  local found = {}
  for index, at in ipairs(claims) do
    local now = balance(TERMS[at].c)
    found[2 * index - 1], found[2 * index] = told(now, 's'), told(now, 'h')
  end
  return '[' .. table.concat(found, ',') .. ']'
end

local function set_aside(claims, amounts)
  for index, at in ipairs(claims) do
    move(TERMS[at].c, 'h', text(amounts[index]))
    last_until(TERMS[at].c, TERMS[at].e)
  end
end

local function reserve(op)
  if redis.call('HEXISTS', KEYS[op.r], op.id) == 1 then return {'closed'} end
  local granted = redis.call('HGET', HOLDS, op.id)
  if granted then return {'again', granted} end
  local refused = in_the_way(op.claims, op.amounts)
  if refused then return refused end
  if too_large(op.claims, op.amounts) then return {'large'} end
  refused = limited(op.u)
  if refused then return refused end
  set_aside(op.claims, op.amounts)
  local parts = {}
  for index, at in ipairs(op.claims) do parts[index] = {TERMS[at].c, text(op.amounts[index]), TERMS[at].b} end
  redis.call('HSET', HOLDS, op.id, cjson.encode({m = op.m, o = args.owner, t = text(now_ms), p = parts, u = take(op.u)}))
  return {'ok', balances_of(op.claims)}
end

local function extend(op)
  local hold = hold_of(op.id)
  if not hold then return {'gone'} end
  local missing = unknown(accounts_of(hold))
  if #missing > 0 then return {'more', unpack(missing)} end
  local held, order = {}, {}
  for _, part in ipairs(hold.p) do
    if not held[part[1]] then held[part[1]] = {part[1], 0, part[3]}; order[#order + 1] = part[1] end
    held[part[1]][2] = held[part[1]][2] + number(part[2])
  end
  local more, amounts = {}, {}
  for index, at in ipairs(op.claims) do
    local so_far = held[TERMS[at].c]
    local missing_amount = op.amounts[index] - (so_far and so_far[2] or 0)
    if missing_amount > 0 then more[#more + 1], amounts[#amounts + 1] = at, missing_amount end
  end
  if op.m and number(op.m) > number(hold.m) then hold.m = op.m end
  local refused = in_the_way(more, amounts)
  if refused then
    redis.call('HSET', HOLDS, op.id, cjson.encode(hold))
    for index, at in ipairs(op.claims) do  -- in the terms of what was asked
      if TERMS[at].c == TERMS[more[number(refused[2]) + 1]].c then refused[2] = text(index - 1) break end
    end
    return refused
  end
  if too_large(more, amounts) then return {'large'} end
  set_aside(more, amounts)
  for index, at in ipairs(more) do
    local account = TERMS[at].c
    if not held[account] then held[account] = {account, 0, TERMS[at].b}; order[#order + 1] = account end
    held[account][2] = held[account][2] + amounts[index]
  end
  hold.p = {}
  local largest = 0
  for _, account in ipairs(order) do
    largest = math.max(largest, held[account][2])
    hold.p[#hold.p + 1] = {account, text(held[account][2]), held[account][3]}
  end
  if not op.m and largest > number(hold.m) then hold.m = text(largest) end
  local kept = cjson.encode(hold)
  redis.call('HSET', HOLDS, op.id, kept)
  return {'ok', balances_of(op.claims), text(largest), kept}
end

-- A record is kept behind a line that says what it charged.
local function booked(op)
  local found = redis.call('HGET', KEYS[op.r], op.id)
  if not found then return nil end
  return cjson.decode(string.sub(found, 1, string.find(found, '\n', 1, true) - 1))
end

local function drop_hold(call_id, hold, tokens)
  for _, part in ipairs(hold and hold.p or {}) do move(part[1], 'h', negative(part[2])) end
  give_back(hold and hold.u, tokens)
  if hold then redis.call('HDEL', HOLDS, call_id) end
end

-- What was lost is nobody's share: whoever settles the call in the end takes it away again.
local function charge(accounts, amount, share)
  for _, account in ipairs(accounts) do
    move(account, 's', amount)
    if share ~= '' then move(account, 's:' .. share, amount) end
  end
end

-- ``counts`` of one call, of dimensions ``of``, are added to the sums of an hour and its day, or taken away.
local function add_up(hour, of, counts, sign)
  for _, at in ipairs({hour.h, hour.d}) do
    local sums = {}
    for count in string.gmatch(redis.call('HGET', KEYS[at], of) or '', '[^,]+') do sums[#sums + 1] = tonumber(count) end
    local known = #sums > 0 and math.min(#sums, #counts) or #counts  -- a count that one part lacks is not known of the sum
    for index = #sums, known + 1, -1 do sums[index] = nil end
    local all_zero = true
    for index = 1, known do
      sums[index] = (sums[index] or 0) + sign * counts[index]
      if sums[index] ~= 0 then all_zero = false end
    end
    for index, sum in ipairs(sums) do sums[index] = text(sum) end
    if all_zero then
      redis.call('HDEL', KEYS[at], of)
      expires = {}
    else
      redis.call('HSET', KEYS[at], of, table.concat(sums, ','))
    end
  end
  expire(hour.h, hour.he)
  expire(hour.d, hour.de)
  if not hour.has_day then redis.call('ZADD', DAYS, text(hour.de), hour.dn) end
  hour.has_day = true
end

local function strike(op, lost)
  charge(lost.a, negative(lost.c), lost.w)
  if lost.s then
    local hour = lost.s
    hour.h, hour.d = args.a['sums:' .. hour.hn], args.a['sums:' .. hour.dn]
    add_up(hour, hour.of, hour.n, -1)
  end
  redis.call('ZREM', key('starts:' .. lost.hr), op.id)
  redis.call('HDEL', KEYS[op.r], op.id)
  expires = {}
end

local function named_by(hold, lost)
  local found = accounts_of(hold)
  for _, account in ipairs(lost and lost.a or {}) do found[#found + 1] = account end
  if lost then found[#found + 1] = 'starts:' .. lost.hr end
  if lost and lost.s then
    found[#found + 1] = 'sums:' .. lost.s.hn
    found[#found + 1] = 'sums:' .. lost.s.dn
  end
  return unknown(found)
end

local function list(index, op, gone)
  redis.call('ZADD', KEYS[index], text(op.t), op.id)
  expire(index, gone)
end

local function keep(op, hour)
  redis.call('HSET', KEYS[op.r], op.id, ARGV[op.record])
  expire(op.r, hour.gone)
  if not hour.is_listed then redis.call('ZADD', HOURS, text(hour.gone), hour.hn) end
  hour.is_listed = true
  list(hour.t, op, hour.gone)
  if op.cor then list(op.cor, op, hour.gone) end
  if op.awaits then redis.call('SET', KEYS[op.awaits], op.id, 'EXAT', text(hour.gone)) end
end

local function settle(op)
  local before = booked(op)
  if before and before.o ~= 'lost' then return {'again', before.c, before.w or ''} end
  local hold = hold_of(op.id)
  local missing = named_by(hold, before)
  if #missing > 0 then return {'more', unpack(missing)} end
  local bill = args.bills[op.b]
  local cost = number(op.c)
  for _, account in ipairs(bill.a) do
    if balance(account).s + cost > LARGEST then return {'large'} end
  end
  drop_hold(op.id, hold, op.tk)
  if before then strike(op, before) end
  charge(bill.a, op.c, op.w)
  for index, account in ipairs(bill.a) do last_until(account, bill.e[index]) end
  keep(op, args.hours[bill.h])
  if op.n then add_up(args.hours[bill.s], op.of, op.n, 1) end
  return reached(bill.l)
end

local function release(op)
  local before = booked(op)
  if before and before.o ~= 'lost' then return {'ok'} end
  local hold = hold_of(op.id)
  local missing = named_by(hold, before)
  if #missing > 0 then return {'more', unpack(missing)} end
  drop_hold(op.id, hold)
  if before then
    strike(op, before)
    return {'ok', 'struck'}
  end
  return {'ok'}
end

-- The owner of a hold is gone: the caller has read the hold and settles it as lost, unless it has changed meanwhile.
local function lapse(op)
  local granted = redis.call('HGET', HOLDS, op.id)
  if granted ~= ARGV[op.seen] then return {'changed'} end
  if number(redis.call('ZSCORE', OWNERS, cjson.decode(granted).o)) >= now_ms then return {'alive'} end
  return settle(op)
end

local function heard(op)
  redis.call('HDEL', OUTBOX, unpack(op.ids))
  return {'ok'}
end

-- A process is alive: its lease moves on. Answers who else is, and who was lately: that one may only be slow.
local function renew(op)
  redis.call('ZADD', OWNERS, now_ms + op.lease_ms, args.owner)
  redis.call('ZREMRANGEBYSCORE', OWNERS, '-inf', now_ms - op.lately_ms)
  return {
    'ok', cjson.encode(redis.call('ZRANGEBYSCORE', OWNERS, now_ms, '+inf')), cjson.encode(redis.call('ZRANGE', OWNERS, 0, -1)),
  }
end

local function leave(op)
  redis.call('ZREM', OWNERS, args.owner)
  redis.call('HDEL', EPOCH, 'q:' .. args.owner)
  return {'ok'}
end

-- What a process has booked on an account in all: what is missing of it came without a record that is still known.
-- Only in the books into which those records have just been put: in others that would count them twice.
local function share(op)
  if redis.call('HGET', EPOCH, 'token') ~= op.token then return {'again'} end
  local missing = number(op.m) - number(redis.call('HGET', key(op.c), 's:' .. op.w))
  if missing > 0 then
    for _, field in ipairs({'s', 'x', 's:' .. op.w}) do move(op.c, field, text(missing)) end
    last_until(op.c, op.e)
  end
  return {'ok'}
end

-- A hold that was granted before the books were lost: it is put back, whatever the limits say.
local function put_back(op)
  if redis.call('HEXISTS', HOLDS, op.id) == 1 or redis.call('HEXISTS', KEYS[op.r], op.id) == 1 then return {'ok'} end
  local hold = cjson.decode(ARGV[op.hold])
  for _, part in ipairs(hold.p) do move(part[1], 'h', part[2]) end
  take(hold.u)
  redis.call('HSET', HOLDS, op.id, ARGV[op.hold])
  return {'ok'}
end

local function forget_who_is_waited_for()
  for _, name in ipairs(redis.call('HKEYS', EPOCH)) do
    if string.sub(name, 1, 2) == 'w:' then redis.call('HDEL', EPOCH, name) end
  end
end

-- Recovery begins, or goes on: whoever is known to be alive is waited for until the grace is over. Each one has a token of its own,
-- so that whoever was restoring books that were lost again meanwhile cannot take them for whole. ``any``: the server has no name
-- for its life, so that whatever name stands there will do.
-- Answers how far these books have heard of the caller: they are a beginning of what was booked, so that whoever finds its last run
-- in them misses nothing.
local function recover(op)
  local found = redis.call('HMGET', EPOCH, 'run', 'token', 'until')
  local heard = redis.call('HGET', EPOCH, 'q:' .. args.owner) or ''
  local stale = op.again and found[2] == op.mine
  if found[2] and (found[1] == op.run or op.any) and not stale then
    if not found[3] then return {'done', found[2], heard} end
  else
    forget_who_is_waited_for()
    redis.call('HSET', EPOCH, 'run', op.run, 'token', op.token, 'until', text(now_ms + op.grace_ms))
    found[2] = op.token
  end
  for _, owner in ipairs(op.known) do redis.call('HSETNX', EPOCH, 'w:' .. owner, '1') end
  return {'ok', found[2], heard}
end

local function spoken(op)
  local found = redis.call('HMGET', EPOCH, 'token', 'until')
  if found[1] ~= op.token then return {'again'} end
  redis.call('HSET', EPOCH, 'q:' .. args.owner, text(op.seq))
  if not found[2] then return {'done'} end
  redis.call('HSET', EPOCH, 'w:' .. args.owner, '0')
  local fields, waited_for = redis.call('HGETALL', EPOCH), 0
  for index = 1, #fields, 2 do
    if string.sub(fields[index], 1, 2) == 'w:' and fields[index + 1] == '1' then waited_for = waited_for + 1 end
  end
  if waited_for > 0 and now_ms < number(found[2]) then return {'wait', text(waited_for)} end
  forget_who_is_waited_for()
  redis.call('HDEL', EPOCH, 'until')
  return {'done', text(waited_for)}
end

local STEPS = {
  reserve = reserve, extend = extend, settle = settle, release = release, lapse = lapse, heard = heard, renew = renew,
  leave = leave, share = share, put_back = put_back, recover = recover, spoken = spoken,
}
local answers = {}
local waits = false  -- what comes after an operation that has to be asked again waits for it
for index, op in ipairs(args.ops) do
  answers[index] = waits and {'later'} or STEPS[op.k](op)
  waits = waits or answers[index][1] == 'more'
end
if args.seq > 0 then redis.call('HSET', EPOCH, 'q:' .. args.owner, text(args.seq)) end
return answers
