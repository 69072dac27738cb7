-- The one way in which anything in the store changes: compare versions, check the fence, write, index, append.
-- ARGV: prefix, office, epoch, then `count` and its items for writes, events and jobs, each item a fixed run of words:
--   write: op ("put"|"delete") kind id expected body ttl n (index score){n}
--   event: subject type at data
--   job:   json
-- Returns "ok", or "fenced", or "conflict <kind> <id> <version there>"; in the latter cases nothing was written.
local at = 0
local function word()
  at = at + 1
  return ARGV[at]
end

local prefix, office, epoch = word(), word(), word()
if office ~= '' and redis.call('GET', prefix .. 'epoch:' .. office) ~= epoch then
  return 'fenced'
end

local writes = {}
for w = 1, tonumber(word()) do
  local write = { op = word(), kind = word(), id = word(), expected = word(), body = word(), ttl = word(), indexes = {} }
  for i = 1, tonumber(word()) do
    write.indexes[i] = { name = word(), score = word() }
  end
  write.key = prefix .. 'doc:' .. write.kind .. ':' .. write.id
  local there = redis.call('HMGET', write.key, 'version', 'indexes')
  local version = there[1] or '0'
  if version ~= write.expected then
    return 'conflict ' .. write.kind .. ' ' .. write.id .. ' ' .. version
  end
  write.version = tonumber(version)
  write.before = there[2] or ''
  writes[w] = write
end

for _, write in ipairs(writes) do
  local stays, names = {}, {}
  for i, index in ipairs(write.indexes) do
    stays[index.name] = true
    names[i] = index.name
    redis.call('ZADD', prefix .. 'index:' .. index.name, index.score, write.id)
  end
  for name in string.gmatch(write.before, '[^\n]+') do
    if not stays[name] then
      redis.call('ZREM', prefix .. 'index:' .. name, write.id)
    end
  end
  if write.op == 'delete' then
    redis.call('DEL', write.key, prefix .. 'events:' .. write.id)
  else
    redis.call('HSET', write.key, 'version', write.version + 1, 'body', write.body, 'indexes', table.concat(names, '\n'))
    if write.ttl ~= '' then
      redis.call('EXPIRE', write.key, write.ttl)
    else
      redis.call('PERSIST', write.key)
    end
  end
end

for _ = 1, tonumber(word()) do
  local subject, kind, time, data = word(), word(), word(), word()
  redis.call('XADD', prefix .. 'events:' .. subject, 'MAXLEN', '~', 10000, '*', 'type', kind, 'at', time, 'data', data)
end

for _ = 1, tonumber(word()) do
  redis.call('XADD', prefix .. 'outbox', '*', 'job', word())
end
return 'ok'
