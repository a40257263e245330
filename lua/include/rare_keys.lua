-- rare_keys: the names of those keys that a claim which simply joins a home does not need. nudge is a channel.
local orphans, moving, errands = stem .. 'orphans', stem .. 'moving', stem .. 'errands'
local ranks, nudge = stem .. 'ranks', stem .. 'nudge'
local past, said, ranked, young = stem .. 'past:', stem .. 'said:', stem .. 'rank:', stem .. 'young:'
