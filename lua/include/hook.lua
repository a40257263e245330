-- hook(move): the end of the time in which, and by whom, its hook is run; nil if nobody has begun.
local function hook(move)
  local till, by = string.match(move.hook or '', '^(%d+) (.*)$')
  return tonumber(till), by
end
