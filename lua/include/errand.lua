-- errand(member): number, end and text of what stands in errands.
local function errand(member)
  local number, till, from = string.match(member, '^(%d+) (%d+) ()')
  return tonumber(number), tonumber(till), string.sub(member, from)
end
