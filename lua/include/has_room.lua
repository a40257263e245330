-- has_room(most, sessions): whether one more may be placed where so many are, if there may be most (0: any number).
local function has_room(most, sessions)
  return most == 0 or sessions < most
end
