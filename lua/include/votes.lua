-- votes(): how many different names of live proxies there are, and how many of them find each backend dead.
local function votes()
  local names, voters, against = {}, 0, {}
  for _, inc in ipairs(redis.call('ZRANGE', leases, 0, -1)) do
    local name, failing = unpack(redis.call('HMGET', proxy .. inc, 'name', 'failing'))
    if name then
      if not names[name] then names[name], voters = {}, voters + 1 end
      for _, backend in ipairs(failing and failing ~= '[]' and cjson.decode(failing) or {}) do
        if not names[name][backend] then against[backend] = (against[backend] or 0) + 1 end
        names[name][backend] = true
      end
    end
  end
  return voters, against
end
