-- Take messages of a queue off for good and tell their outcomes, in one: there is no state in which one is gone and
-- nobody hears.
--
-- KEYS[1]  hash: bodies by id
-- KEYS[2]  hash: deliveries by id
-- KEYS[3…] sets: ids held, of every consumer that may hold one of these
-- then     streams: reports of partitions
-- ARGV[1]  how many sets
-- ARGV[2]  the streams' field
-- then for each message: the id; which of the keys is its stream; its report, empty for a message of a plain actor
--
-- Gives for each message 1 if a consumer held it, else 0: then it was returned to the queue meanwhile. A report goes out
-- all the same, and what it settles need not run again; a plain message stays, as with Dramatiq's own broker.
--
-- The order matters: at maxmemory Redis refuses the first write of a script if it may take memory, and no later one.

local last_set = 2 + tonumber(ARGV[1])
local answers = {}
for i = 3, #ARGV, 3 do
  local id, report = ARGV[i], ARGV[i + 2]
  local held = 0
  for k = 3, last_set do
    held = held + redis.call('SREM', KEYS[k], id)
  end
  local has_report = report ~= ''
  if held > 0 or has_report then
    redis.call('HDEL', KEYS[1], id)
    redis.call('HDEL', KEYS[2], id, id .. ':begun', id .. ':said')
  end
  if has_report then
    redis.call('XADD', KEYS[tonumber(ARGV[i + 1])], '*', ARGV[2], report)
  end
  answers[#answers + 1] = math.min(held, 1)
end
return answers
