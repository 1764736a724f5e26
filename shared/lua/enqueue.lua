-- Record a job and push its message, atomically. The same id twice is one job.
--
-- ARGV  1 prefix  2 id  3 task  4 queue  5 priority (0 interactive | 9 batch)  6 tenant
--       7 deadline in ms from now (0: the cluster's default)  8 presence (1: the job ends when presence:<id> expires)
--       9 max_attempts  10 message (JSON)
-- Gives {'ok'} | {'dup', state} | {'full', ms until there may be room} | {'mismatch'}: the message is not JSON with this id
local id, task, queue, priority, tenant = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]

local known = redis.call('HMGET', key_of(id), 'state', 'env')
if known[1] then
  if known[2] == ARGV[10] then return {'ok'} end      -- the very same call once more, after a lost answer
  return {'dup', known[1]}
end

if id_of(ARGV[10]) ~= id then return {'mismatch'} end

local shares = P .. 'shares:' .. queue
local parked = tonumber(redis.call('HGET', shares, 'parked') or 0)
local depth = redis.call('LLEN', queue) + redis.call('LLEN', queue .. ':9') + parked
local own = parked > 0 and redis.call('LLEN', P .. 'parked:' .. queue .. ':' .. priority .. ':' .. tenant) or 0
if depth >= config('queue_limit') or own >= config('tenant_limit') then
  local every = tonumber(redis.call('HGET', P .. 'pace:' .. queue, 'every') or 1000)
  local wait = math.min(60000, math.max(100, every * math.max(1, depth / 10)))
  return {'full', math.floor(wait)}
end

local within = tonumber(ARGV[7])
if within <= 0 then within = config('deadline_ms') end
begin(id, task, queue, priority, tenant, id, ARGV[9], NOW + within, ARGV[8], ARGV[10])
if ARGV[8] == '1' then redis.call('SET', P .. 'presence:' .. id, 1, 'EX', config('presence_ttl_s'), 'NX') end
return {'ok'}
