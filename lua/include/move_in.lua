-- move_in(b, to, backend, now, remember): ends a move of a key that nobody holds: its home is where heading said that to
-- leads. why is what its history says, if not what follows from to.
local function move_in(b, to, backend, now, remember, why)
  if to == 'anywhere' or to == 'elsewhere' then chosen(backend) end
  rehome(b, backend, now, remember, why or to == 'stay' and 'kick' or 'move')
end
