-- Begin an attempt: only one worker at a time gets a record, and only while it may still run.
--
-- ARGV  1 prefix  2 id  3 owner: names the worker and this claim, so that asking again after a lost answer gives the same claim
--       4 SHA-1 (hex) of the message that asked for it; '' or nothing: whatever asked
-- Gives {'ok', fence, attempt, root, tenant, deadline, created of the root, a stage's root's message, checkpoint, now (ms),
--       to the stage that ends a job what the others have left: {task, result, created, started, finished} of each, in the
--       order of their making; what is missing is nil}
--     | {'unknown'} | {'busy'} | {'foreign'}: the record was made with another message | {'ended', state} | {'dropped', reason}
local id, owner = ARGV[2], ARGV[3]
local job = key_of(id)
local r = redis.call('HMGET', job, 'state', 'deadline', 'lease', 'attempts', 'max_attempts', 'queue', 'task', 'tenant', 'owner',
  'fence', 'checkpoint', 'env', 'priority', 'listed', 'parked', 'presence', 'created', 'seq')
local state, root, deadline = r[1], root_of(id), r[2]
local function granted(fence, attempt)
  local top = root == id and {r[17], ''} or redis.call('HMGET', key_of(root), 'created', 'env', 'last')
  local left = {}
  for _, stage in ipairs(top[3] == id and redis.call('LRANGE', P .. 'stages:' .. root, 0, -1) or {}) do
    if stage ~= id then left[#left + 1] = redis.call('HMGET', key_of(stage), 'task', 'result', 'created', 'started', 'finished') end
  end
  return {'ok', fence, attempt, root, r[8], deadline, top[1], top[2], r[11] or '', NOW, left}
end

if not state then
  -- a stage that its job, replayed since, has not made again
  if redis.call('EXISTS', key_of(root)) == 1 then return {'ended', 'forgotten'} end
  return {'unknown'}
end
if TERMINAL[state] or state == 'waiting' then return {'ended', state} end
if (ARGV[4] or '') ~= '' and redis.sha1hex(r[12] or '') ~= ARGV[4] then return {'foreign'} end
if state == 'running' and tonumber(r[3]) > NOW then
  if r[9] == owner then return granted(r[10], r[4]) end
  return {'busy'}
end

local why = obstacle(id, root, deadline, r[16])
if why then
  drop(id, root, r[7], why)
  return {'dropped', why}
end
if tonumber(r[4]) >= tonumber(r[5]) then
  bury_job(root, r[7] .. ': its workers died on every attempt')
  if root ~= id then close_record(id, 'failed') end
  fail_job(root, fault_json('attempts_exhausted', EXHAUSTED, r[7]))
  return {'dropped', 'dead'}
end

leave(id, r[6], r[13], r[8], r[14], r[15])
local pace = P .. 'pace:' .. r[6]
local last = redis.call('HMGET', pace, 'at', 'every')
local gap = math.min(60000, NOW - tonumber(last[1] or NOW))
redis.call('HSET', pace, 'at', AT, 'every', 0.8 * tonumber(last[2] or gap) + 0.2 * gap)
-- once a minute is enough for a key that lives an hour
if not last[1] or math.floor(NOW / 60000) ~= math.floor(last[1] / 60000) then redis.call('EXPIRE', pace, '3600') end

local fence, attempt, lease = r[10] + 1, r[4] + 1, NOW + config('lease_ms')
local seq = root == id and (r[18] or 0) + 1      -- a stage's events are its job's
redis.call('HSET', job, 'state', 'running', 'fence', fence, 'attempts', attempt, 'owner', owner, 'lease', lease, 'started', AT,
  'reports', '0', 'lost', '0', 'listed', '0', 'parked', '0', 'seq', seq or '0')
redis.call('ZADD', P .. 'open', lease, id)
emit(root, 'started', cjson.encode({stage = r[7], attempt = attempt}), seq)
return granted(fence, attempt)
