-- text(line): what row reads.
local function text(line)
  local head = string.format('%d %s %.0f %d %d %s %.0f %d %d ', line.weight, line.state, line.since, line.failing and 1 or 0,
    line.most, line.job, line.job_since, line.paused and 1 or 0, #line.pool)
  return head .. line.pool .. line.tail
end
