-- errand(member): number, end and text of what stands in errands; nil of what does not.
local function errand(member)
  local number, till, from = string.match(member or '', '^(%d+) (%d+) ()')
  if not from then return nil end
  return tonumber(number), tonumber(till), string.sub(member, from)
end
