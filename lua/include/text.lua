-- text(line): what row reads.
local function text(line)
  if line.unread then return line.unread end
  local failing, paused = line.failing and 1 or 0, line.paused and 1 or 0
  local head = string.format('%d %s %.0f %d %.0f', line.weight, line.state, line.since, failing, line.most)
  local job = string.format(' %s %.0f %d %d ', line.job, line.job_since, paused, #line.pool)
  return head .. job .. line.pool .. line.tail
end
