-- window(now, till, recovery, recovery_max): how long claims have to wait at least, in milliseconds; 0 if no recovery
-- window is open. After its earliest end it stays open for those who still have to re-assert, but not for ever.
local function window(now, till, recovery, recovery_max)
  if now < till then return till - now end
  if now + recovery < till + recovery_max and redis.call('SCARD', asserting) > 0 then return 1 end
  return 0
end
