-- prove(b): the user exists, so the binding is to be remembered.
local function prove(b)
  if b.unproven then
    redis.call('HDEL', binding .. b.key, 'unproven')
    b.unproven = nil
  end
end
