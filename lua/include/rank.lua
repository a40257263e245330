-- rank(version): brings the order in which backends are taken up to date, so that place need not look at each of them: all
-- of it if the table has changed, else for those whose load has changed since (stale).
-- rank:<pool> has the score load / share and the members "turn name", so its first is the one to take. ranks knows of each
-- backend what was ranked, of each pool the sums, and how often each was chosen. Shares are those after slow_start.

-- Its functions are within it, so that a script that does not place anybody need not make them.
local function rank(version)
  local function member(its_turn, name)
    return string.format('%016.0f ', its_turn) .. name
  end

  local function what_was_ranked(share, sessions, its_turn, pool)
    return string.format('%.0f %.0f %.0f %s', share, sessions, its_turn, pool)
  end

  local function rank_all(version)
    for field in pairs(fields(ranks)) do
      if string.sub(field, 1, 5) == 'pool:' then redis.call('DEL', ranked .. string.sub(field, 6)) end
    end
    redis.call('DEL', ranks, stale)
    redis.call('HSET', ranks, 'version', version)
    local loads, pools = fields(load), {}
    for field, text in pairs(fields(backends)) do
      local line = field ~= 'version' and row(text)
      if line and line.state == 'up' and line.weight > 0 then
        local name, share = string.sub(field, 3), line.weight * 100
        local sessions, first = tonumber(loads[name] or 0), turn(0, share)
        local sums = pools[line.pool] or { shares = 0, load = 0, newest = 0 }
        sums.shares, sums.load, sums.newest = sums.shares + share, sums.load + sessions, math.max(sums.newest, line.since)
        pools[line.pool] = sums
        redis.call('ZADD', ranked .. line.pool, sessions / share, member(first, name))
        redis.call('HSET', ranks, 'at:' .. name, what_was_ranked(share, sessions, first, line.pool))
      end
    end
    for pool, sums in pairs(pools) do
      local fixed = string.format('%.0f %.0f', sums.shares, sums.newest)
      redis.call('HSET', ranks, 'pool:' .. pool, fixed, 'load:' .. pool, sums.load)
    end
  end

  local function rank_again(names)
    local asked, entries, pools = {}, {}, {}
    for i, name in ipairs(names) do asked[2 * i - 1], asked[2 * i] = 'at:' .. name, 'placed:' .. name end
    local known, loads = redis.call('HMGET', ranks, unpack(asked)), redis.call('HMGET', load, unpack(names))
    for i, name in ipairs(names) do
      local share, before, old, pool = string.match(known[2 * i - 1] or '', '^(%d+) (%d+) (%d+) (.*)$')
      if share then
        local sessions, new = tonumber(loads[i] or 0), turn(known[2 * i] or 0, share)
        local changes = pools[pool] or { gone = {}, there = {}, load = 0 }
        pools[pool] = changes
        changes.gone[#changes.gone + 1] = member(old, name)
        changes.there[#changes.there + 1] = sessions / share
        changes.there[#changes.there + 1] = member(new, name)
        changes.load = changes.load + sessions - before
        entries[#entries + 1] = 'at:' .. name
        entries[#entries + 1] = what_was_ranked(share, sessions, new, pool)
      end
    end
    for pool, changes in pairs(pools) do
      redis.call('ZREM', ranked .. pool, unpack(changes.gone))
      redis.call('ZADD', ranked .. pool, unpack(changes.there))
      redis.call('HINCRBY', ranks, 'load:' .. pool, changes.load)
    end
    if #entries > 0 then redis.call('HSET', ranks, unpack(entries)) end
    redis.call('DEL', stale)
  end

  if redis.call('HGET', ranks, 'version') ~= version then return rank_all(version) end
  local names = redis.call('SMEMBERS', stale)
  if #names > 0 then rank_again(names) end
end
