-- row(text): a line of the backend table, or nil.
local function row(text)
  if not text then return nil end
  local weight, state, since, pool = string.match(text, '^(%d+) (%a+) (%d+) (.*)$')
  return { weight = tonumber(weight), state = state, since = tonumber(since), pool = pool }
end
