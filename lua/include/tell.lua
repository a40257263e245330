-- tell(whom): a nudge: that incarnation, or everybody who listens if it is nil, should send a heartbeat now. A user who
-- may not publish does without: the heartbeat that comes anyway brings the truth.
local function tell(whom)
  redis.pcall('PUBLISH', whom and nudge .. ':' .. whom or nudge, '')
end
