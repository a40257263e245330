-- install(version, from, change): the table is what ARGV[from] and those behind it say, name by name, each line after
-- change(name, line), if that is given. Everybody is told.
local function install(version, from, change)
  local condemned = 0
  redis.call('DEL', backends)
  redis.call('HSET', backends, 'version', version)
  wide(backends)
  for i = from, #ARGV, 2 do
    local name, line = ARGV[i], row(ARGV[i + 1])
    if change then change(name, line) end
    if line.failing then condemned = condemned + 1 end
    redis.call('HSET', backends, 'r:' .. name, text(line))
  end
  redis.call('HSET', shard, 'condemned', condemned)
  tell()
end
