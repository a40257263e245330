-- rehome(b, backend, now, remember, why): gives a key that nobody holds another home, or the same anew. It is as fresh as
-- if somebody had just left it.
local function rehome(b, backend, now, remember, why)
  local generation = renewed(b, backend, now)
  note_past(b, generation, why, remember)
  halt(b)
  put(b, 'be', backend)
  put(b, 'gen', generation)
  put(b, 'idle', now)
  b.backend, b.generation, b.idle = backend, generation, now
  expire(b.key, b.marks, now, remember)
end
