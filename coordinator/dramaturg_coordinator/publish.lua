-- Publish steps: fenced by the epochs of their partitions, and idempotent by message id.
--
-- KEYS[1]  hash: highest epoch seen, by partition
-- KEYS[2…] for each queue: its hash of bodies and its list of ids, in turn
-- ARGV[1]  how many partitions; then for each: partition, epoch
-- then for each message: which of the keys is its queue's hash; id; body
--
-- Gives the partitions of which a higher epoch was seen; then nothing was published.

local partitions = tonumber(ARGV[1])
local first = 2 + 2 * partitions
local lost = {}
for i = 2, first - 1, 2 do
  local seen = redis.call('HGET', KEYS[1], ARGV[i])
  if seen and tonumber(seen) > tonumber(ARGV[i + 1]) then
    lost[#lost + 1] = ARGV[i]
  end
end
if #lost > 0 then
  return lost
end
for i = 2, first - 1, 2 do
  redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
end
for i = first, #ARGV, 3 do
  local queue = tonumber(ARGV[i])
  if redis.call('HSETNX', KEYS[queue], ARGV[i + 1], ARGV[i + 2]) == 1 then
    redis.call('RPUSH', KEYS[queue + 1], ARGV[i + 1])
  end
end
return lost
