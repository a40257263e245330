-- row(text): a line of the backend table, or nil if there is none. What no script needs is its tail. A line that a newer
-- version wrote so that this one cannot read it is as if drained: who is there stays, and nobody is placed there. It is
-- kept as it is: text gives it back, whatever else is said of it here.
local HEAD = '^(%d+) (%a+) (%d+) ([01]) (%d+) (%a+) (%d+) ([01]) (%d+) ()'

local function row(text)
  if not text then return nil end
  local weight, state, since, failing, most, job, job_since, paused, length, from = string.match(text, HEAD)
  local known = (state == 'up' or state == 'drain' or state == 'down' or state == 'removed')
    and (job == 'none' or job == 'evict' or job == 'flush' or job == 'rebalance')
    and from + length - 1 <= #text
  if not known then
    return {
      weight = 0, state = 'drain', since = 0, failing = false, most = 0, job = 'none', job_since = 0, paused = false,
      pool = 'default', tail = '', unread = text,
    }
  end
  return {
    weight = tonumber(weight), state = state, since = tonumber(since), failing = failing == '1', most = tonumber(most),
    job = job, job_since = tonumber(job_since), paused = paused == '1',
    pool = string.sub(text, from, from + length - 1), tail = string.sub(text, from + length),
  }
end
