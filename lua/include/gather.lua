-- gather(): from now on what happens to sums and to the index is kept until spill writes it: for a script with a page of keys.
local sums_to_add, keys_to_list
local texts -- of numbers that come again and again: Redis takes long to format one

local function gather()
  sums_to_add, keys_to_list, texts = {}, {}, {}
end
