-- continue(line, before, now): since when a line's state and job have been what they are, if it follows before (or nil).
local function continue(line, before, now)
  local same = before and before.state == line.state and before.failing == line.failing
  line.since = same and before.since or now
  if line.job ~= 'none' then line.job_since = before and before.job == line.job and before.job_since or now end
end
