-- After a lost connection: go on under a new id. What is still being worked on goes with it; all else that the old id
-- held (what was lost on the way here, or dropped with the connection) returns to the head of the queue.
--
-- KEYS[1]  list: ids of the queue
-- KEYS[2]  hash: bodies by id
-- KEYS[3]  hash: deliveries by id
-- KEYS[4]  zset: consumers by the time of their last sign of life, in ms
-- KEYS[5]  set: ids that the new consumer holds
-- KEYS[6]  set: ids that the old one held
-- ARGV[1]  the new consumer
-- ARGV[2]  the old one
-- ARGV[3…] ids that are being worked on
--
-- Gives 1 if the old one was known, else 0, and how many returned to the queue.

local working = {}
for i = 3, #ARGV do
  working[ARGV[i]] = true
end
local ids = redis.call('SMEMBERS', KEYS[6])
redis.call('DEL', KEYS[6])
local known = redis.call('ZREM', KEYS[4], ARGV[2])
local time = redis.call('TIME')
redis.call('ZADD', KEYS[4], string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)), ARGV[1])
local returned = 0
for _, id in ipairs(ids) do
  if working[id] then
    redis.call('SADD', KEYS[5], id)
  else
    if redis.call('HINCRBY', KEYS[3], id, -1) <= 0 then
      redis.call('HDEL', KEYS[3], id)
    end
    if redis.call('HEXISTS', KEYS[2], id) == 1 then
      redis.call('LPUSH', KEYS[1], id)
      returned = returned + 1
    end
  end
end
return {known, returned}
