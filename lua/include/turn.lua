-- turn(placed, share): who comes first among equally loaded backends, lowest first: the one that was given least for its
-- share since the table changed. In integers, so that the memory store, which does the same, decides the same.
local function turn(placed, share)
  return math.floor((placed + 1) * 1e6 / share)
end
