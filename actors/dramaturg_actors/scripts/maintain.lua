-- Return the messages of consumers that give no sign of life, and forget old dead letters.
--
-- KEYS[1]  zset: consumers by the time of their last sign of life, in ms
-- ARGV[1]  namespace
-- ARGV[2]  ms without a sign of life after which a consumer is dead
-- ARGV[3]  ms that dead letters are kept
-- ARGV[4…] queues; their delay queues are looked after too
--
-- Gives how many messages returned. They return to the head of their queue: they have waited longest.
-- A consumer of ours is called <id>@<queue>, so it is known what it held, and it is forgotten. One of Dramatiq's own
-- may hold messages of queues that are not named here, so forgetting it is left to Dramatiq.
-- The keys of a queue are made here, as in Dramatiq's own script, from which consumers there are.

local namespace = ARGV[1]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local returned = 0

local function return_messages(consumer, queue)
  local held = namespace .. ':__acks__.' .. consumer .. '.' .. queue
  local list = namespace .. ':' .. queue
  local ids = redis.call('SMEMBERS', held)
  redis.call('DEL', held)
  for _, id in ipairs(ids) do
    if redis.call('HEXISTS', list .. '.msgs', id) == 1 then
      redis.call('LPUSH', list, id)
      returned = returned + 1
    end
  end
end

-- A worker of Dramatiq's own that ends a message leaves its count of deliveries behind.
local function forget_counts(queue)
  if redis.call('EXISTS', namespace .. ':' .. queue .. '.msgs') == 0 then
    redis.call('DEL', namespace .. ':dramaturg:deliveries:' .. queue)
  end
end

local silent = string.format('%.0f', now - tonumber(ARGV[2]))
for _, consumer in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', silent)) do
  local queue = string.match(consumer, '@(.+)$')
  if queue then
    return_messages(consumer, queue)
    redis.call('ZREM', KEYS[1], consumer)
  else
    for i = 4, #ARGV do
      return_messages(consumer, ARGV[i])
      return_messages(consumer, ARGV[i] .. '.DQ')
    end
  end
end

local old = string.format('%.0f', now - tonumber(ARGV[3]))
for i = 4, #ARGV do
  local dead = namespace .. ':' .. ARGV[i] .. '.XQ'
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', dead, '-inf', old, 'LIMIT', 0, 1000)) do
    redis.call('ZREM', dead, id)
    redis.call('HDEL', dead .. '.msgs', id)
  end
  forget_counts(ARGV[i])
  forget_counts(ARGV[i] .. '.DQ')
end
return returned
