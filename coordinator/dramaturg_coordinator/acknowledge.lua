-- Cut reports that are committed off their streams: fenced by the epochs of the partitions.
--
-- KEYS[1]  hash: highest epoch seen, by partition
-- KEYS[2…] streams of reports
-- ARGV     for each stream: partition, epoch, the first entry to keep
--
-- Gives the partitions of which a higher epoch was seen; their streams are left alone.

local lost = {}
for i = 2, #KEYS do
  local at = 3 * (i - 2) + 1
  local seen = redis.call('HGET', KEYS[1], ARGV[at])
  if seen and tonumber(seen) > tonumber(ARGV[at + 1]) then
    lost[#lost + 1] = ARGV[at]
  else
    redis.call('XTRIM', KEYS[i], 'MINID', '=', ARGV[at + 2])
  end
end
return lost
