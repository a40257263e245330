-- verdicts(lines, voters, against, max_down): which backends are to count as dead: those that the majority of the names
-- finds dead. If they are more of a pool than max_down, the network is the suspect, not the servers: then nobody is called
-- dead who was not.
local function verdicts(lines, voters, against, max_down)
  local pools, dead = {}, {}
  for name, line in pairs(lines) do
    if line.state ~= 'down' and line.state ~= 'removed' and not line.unread then
      local pool = pools[line.pool] or { all = 0, found = 0 }
      pools[line.pool] = pool
      pool.all = pool.all + 1
      if (against[name] or 0) * 2 > voters then
        pool.found = pool.found + 1
        dead[name] = true
      end
    end
  end
  for name in pairs(dead) do
    local line = lines[name]
    local panic = pools[line.pool].found > math.floor(pools[line.pool].all * max_down)
    dead[name] = line.failing or not panic
  end
  return dead
end
