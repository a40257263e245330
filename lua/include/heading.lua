-- heading(to, home, pool, now, slow_start): where a move leads, or nil if nowhere; and that line of the table if it was
-- named. to is stay, anywhere, elsewhere or = and a name.
local function heading(to, home, pool, now, slow_start)
  if to == 'stay' then return home end
  if string.sub(to, 1, 1) == '=' then
    local name = string.sub(to, 2)
    local line = row(redis.call('HGET', backends, 'r:' .. name))
    if usable(line) then return name, line end
    return nil
  end
  return place(pool, '', nil, to == 'elsewhere' and home or nil, now, 1, slow_start)
end
