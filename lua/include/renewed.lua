-- renewed(b, backend, now): the generation of b if it is given that home now. Not below the beginning of a flush there, which
-- may be ahead of the clock (it is a version of the table): b would be flushed again and again until the clock is there.
local function renewed(b, backend, now)
  local line = row(redis.call('HGET', backends, 'r:' .. backend))
  return math.max(b.generation + 1, now, line and line.job == 'flush' and line.job_since or 0)
end
