-- Entries and the log of their changes: all changes of one run or none.
-- KEYS: entries (hash: name -> version, stamp, newline, body), versions (zset: name by version), log (zset: line by revision),
-- revision (string). ARGV[1]: "change", "since" or "restore".
-- A stamp is the microsecond of a change: revisions are given out a second time by a server that forgot some, stamps are not.
local entries, versions, log, revision = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local at = tonumber(redis.call('GET', revision) or '0')

local function found(name)
  local version, stamp, body = string.match(redis.call('HGET', entries, name) or '0\n', '^(%d+) ?(%d*)\n(.*)$')
  return tonumber(version), tonumber(stamp) or 0, body
end

local function put(name, version, stamp, body)
  redis.call('HSET', entries, name, string.format('%d %.0f\n', version, stamp) .. body)
  redis.call('ZADD', versions, version, name)
end

if ARGV[1] == 'since' then
  -- ARGV[2]: a revision. In one step: what changes between two would be taken for seen.
  local answer = {}
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', versions, '(' .. ARGV[2], '+inf')) do
    answer[#answer + 1] = name
    answer[#answer + 1] = redis.call('HGET', entries, name)
  end
  return answer
end

if ARGV[1] == 'restore' then
  -- ARGV[2]: the revision that somebody remembers; then name, version, stamp, body ("" = taken away).
  -- Of each the younger one holds: what is here may be older (a replica that lagged) or decided since the server forgot. What is
  -- not known to whoever remembers counts as newer than all of that.
  local known, younger = tonumber(ARGV[2]), 0
  if at >= known then return {at} end
  local remembered = {}
  for i = 3, #ARGV, 4 do remembered[ARGV[i]] = i end
  for _, name in ipairs(redis.call('ZRANGE', versions, 0, -1)) do
    local _, stamp, body = found(name)
    local i = remembered[name]
    if not i or stamp > tonumber(ARGV[i + 2]) then
      younger = younger + 1
      put(name, known + younger, stamp, body)
      remembered[name] = nil
    end
  end
  for name, i in pairs(remembered) do put(name, tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2]), ARGV[i + 3]) end
  redis.call('SET', revision, string.format('%d', known + younger))
  return {known + younger}
end

-- ARGV[2]: how many lines the log keeps; then name, expected version ("" = any), body ("" = take it away), what the log says
-- of before where there is no entry, line of the log
local clock = redis.call('TIME')
local stamp = clock[1] * 1000000 + clock[2]
for i = 3, #ARGV, 5 do
  local version, before_at, body = found(ARGV[i])
  if body == '' then version = 0 end
  if ARGV[i + 1] ~= '' and tonumber(ARGV[i + 1]) ~= version then
    return {-1, ARGV[i], version}
  end
  stamp = math.max(stamp, before_at + 1)  -- a clock may be set back
end
for i = 3, #ARGV, 5 do
  at = at + 1
  local _, _, before = found(ARGV[i])
  if before == '' then before = ARGV[i + 3] end
  put(ARGV[i], at, stamp, ARGV[i + 2])
  local line = {string.format('%d', at), ARGV[i + 4], string.format('%d', #before), before .. ARGV[i + 2]}
  redis.call('ZADD', log, at, table.concat(line, '\n'))
end
redis.call('ZREMRANGEBYRANK', log, 0, -tonumber(ARGV[2]) - 1)
redis.call('SET', revision, string.format('%d', at))
return {at, stamp}
