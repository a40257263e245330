-- gather(): from now on what happens to sums and to the index is kept until spill writes it: for a script with a page of
-- keys. digits(number): the number as it is written, where that is easy: Redis takes long to format one; most are small, and
-- on a page many come again.
local sums_to_add, keys_to_list, texts

local function gather()
  sums_to_add, keys_to_list, texts = {}, {}, {}
end

local function digits(number)
  if number >= 0 and number < 10 then return string.char(48 + number) end
  if not texts then return number end
  texts[number] = texts[number] or string.format('%.0f', number)
  return texts[number]
end
