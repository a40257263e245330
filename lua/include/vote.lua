-- vote(inc, failing, now, max_down): takes the vote of inc, a JSON list, and makes the table say what the votes say.
-- While nobody is called dead and nobody calls anybody so, the table need not be read.
local function vote(inc, failing, now, max_down)
  redis.call('HSET', proxy .. inc, 'failing', failing)
  local voters, against = votes()
  if not next(against) and tonumber(redis.call('HGET', shard, 'condemned') or 0) == 0 then return end
  local version, lines = in_force()
  local dead, changed, condemned = verdicts(lines, voters, against, max_down), false, 0
  local next_version = math.max(now, version + 1)
  for name, line in pairs(lines) do
    local fails = dead[name] or false
    if fails then condemned = condemned + 1 end
    if fails ~= line.failing then
      changed, line.failing, line.since = true, fails, next_version
      redis.call('HSET', backends, 'r:' .. name, text(line))
    end
  end
  if not changed then return end
  redis.call('HSET', backends, 'version', next_version)
  redis.call('HSET', shard, 'condemned', condemned)
  tell()
end
