-- row(text): a line of the backend table, or nil. What no script needs is its tail.
local HEAD = '^(%d+) (%a+) (%d+) ([01]) (%d+) (%a+) (%d+) ([01]) (%d+) ()'

local function row(text)
  if not text then return nil end
  local weight, state, since, failing, most, job, job_since, paused, length, from = string.match(text, HEAD)
  if not weight then return nil end
  return {
    weight = tonumber(weight), state = state, since = tonumber(since), failing = failing == '1', most = tonumber(most),
    job = job, job_since = tonumber(job_since), paused = paused == '1',
    pool = string.sub(text, from, from + length - 1), tail = string.sub(text, from + length),
  }
end
