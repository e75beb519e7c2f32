-- Look since when Redis has what it has.
--
-- KEYS[1]  string: when it was first seen, in ms; gone with everything else when Redis is emptied
--
-- Gives that time, and how many ms ago it was. It is written only where it is missing, so that a full Redis can be asked.

local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
local since = redis.call('GET', KEYS[1])
if not since then
  since = now
  redis.call('SET', KEYS[1], since)
end
return {since, tonumber(now) - tonumber(since)}
