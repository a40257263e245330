-- fetch(key, now, remember): the binding of a key, or nil if there is none or it was idle for so long that it is as good
-- as absent; then its marks, without a hold that is over. The key's own expiry only collects what nobody asks for: it runs
-- by the server's clock, not by ours.
local function fetch(key, now, remember)
  local fields = redis.call('HGETALL', binding .. key)
  local marks = {}
  if #fields == 0 then return nil, marks end
  local found, move = { key = key, n = 0, generation = 0, h = {}, marks = marks }, {}
  for i = 1, #fields, 2 do
    local name, value = fields[i], fields[i + 1]
    if name == 'be' then found.backend = value
    elseif name == 'gen' then found.generation = tonumber(value)
    elseif name == 'n' then found.n = tonumber(value)
    elseif name == 'idle' then found.idle = tonumber(value)
    elseif name == 'unproven' then found.unproven = true
    elseif string.sub(name, 1, 2) == 'h:' then found.h[string.sub(name, 3)] = tonumber(value)
    elseif name == 'pin' then marks.pin = value
    elseif name == 'hold' then marks.hold = tonumber(value)
    elseif name == 'to' or name == 'hook' then move[name] = value
    else move[name] = tonumber(value) end
  end
  if marks.hold and marks.hold > 0 and marks.hold <= now then
    marks.hold = nil
    redis.call('HDEL', binding .. key, 'hold') -- with it goes a key that has nothing else, and its time to live
  end
  if not found.backend then return nil, marks end
  if move.to then found.moving = move end
  if found.n == 0 and not found.moving and found.idle and found.idle + remember <= now then
    unbind(found, now, remember)
    return nil, marks
  end
  return found, marks
end
