-- install(version, was, from, change): the table, in which were these lines by name, is what ARGV[from] and those behind it
-- say, name by name, each line after change(name, line), if that is given. Everybody is told. What a newer version may keep
-- beside the lines stays.
local function install(version, was, from, change)
  local condemned, named = 0, {}
  for i = from, #ARGV, 2 do named[ARGV[i]] = true end
  for name in pairs(was) do
    if not named[name] then redis.call('HDEL', backends, 'r:' .. name) end
  end
  redis.call('HSET', backends, 'version', version)
  wide(backends)
  for i = from, #ARGV, 2 do
    local name, line = ARGV[i], row(ARGV[i + 1])
    if change then change(name, line) end
    if line.failing and not line.unread then condemned = condemned + 1 end
    redis.call('HSET', backends, 'r:' .. name, text(line))
  end
  redis.call('HSET', shard, 'condemned', condemned)
  tell()
end
