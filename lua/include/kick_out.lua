-- kick_out(key, holder): holder must close its sessions of key, soon.
local function kick_out(key, holder)
  redis.call('SADD', kicks .. holder, key)
  tell(holder)
end
