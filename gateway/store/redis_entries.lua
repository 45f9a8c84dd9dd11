-- Entries and the log of their changes: all changes of one run or none.
-- KEYS: entries (hash: name -> version, newline, body), versions (zset: name by version), log (zset: line by revision), revision (string)
-- ARGV[1]: "change" or "restore"
local entries, versions, log, revision = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local at = tonumber(redis.call('GET', revision) or '0')

if ARGV[1] == 'restore' then
  -- ARGV[2]: the revision that somebody remembers; then name, version, body ("" = taken away), and what the server has of it if that is
  -- known to be older ("" = it is not). What was decided since the server forgot stays, and counts as newer than all that is remembered.
  local known = tonumber(ARGV[2])
  if at >= known then return {at} end
  local there = redis.call('ZRANGE', versions, 0, -1)
  local remembered = {}
  for i = 3, #ARGV, 4 do
    local found, text = redis.call('HGET', entries, ARGV[i]), ARGV[i + 1] .. '\n' .. ARGV[i + 2]
    if not found or found == ARGV[i + 3] or found == text then
      redis.call('HSET', entries, ARGV[i], text)
      redis.call('ZADD', versions, ARGV[i + 1], ARGV[i])
      remembered[ARGV[i]] = true
    end
  end
  for _, name in ipairs(there) do
    if not remembered[name] then
      known = known + 1
      local body = string.match(redis.call('HGET', entries, name), '\n(.*)$') or ''
      redis.call('HSET', entries, name, string.format('%d', known) .. '\n' .. body)
      redis.call('ZADD', versions, known, name)
    end
  end
  redis.call('SET', revision, string.format('%d', known))
  return {known}
end

-- ARGV[2]: how many lines the log keeps; then name, expected version ("" = any), body ("" = take it away), line of the log
for i = 3, #ARGV, 4 do
  local found = redis.call('HGET', entries, ARGV[i])
  local version, body = 0, ''
  if found then
    version, body = string.match(found, '^(%d+)\n(.*)$')
    if body == '' then version = 0 end
  end
  if ARGV[i + 1] ~= '' and tonumber(ARGV[i + 1]) ~= tonumber(version) then
    return {-1, ARGV[i], tonumber(version)}
  end
end
for i = 3, #ARGV, 4 do
  at = at + 1
  local found = redis.call('HGET', entries, ARGV[i])
  local before = found and string.match(found, '\n(.*)$') or ''
  redis.call('HSET', entries, ARGV[i], string.format('%d', at) .. '\n' .. ARGV[i + 2])
  redis.call('ZADD', versions, at, ARGV[i])
  local line = {string.format('%d', at), ARGV[i + 3], string.format('%d', #before), before .. ARGV[i + 2]}
  redis.call('ZADD', log, at, table.concat(line, '\n'))
end
redis.call('ZREMRANGEBYRANK', log, 0, -tonumber(ARGV[2]) - 1)
redis.call('SET', revision, string.format('%d', at))
return {at}
