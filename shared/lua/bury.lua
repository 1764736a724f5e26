-- A message that cannot be read: keep it, with the reason; its job, where one is known, ends.
--
-- ARGV  1 prefix  2 queue  3 reason  4 raw message  5 job id or ''  6 fault (JSON)
-- Gives the entry's id
local entry = bury(ARGV[2], ARGV[5], '', ARGV[3], ARGV[4])
if ARGV[5] ~= '' then
  local r = redis.call('HMGET', key_of(ARGV[5]), 'state', 'root')
  if r[1] and not TERMINAL[r[1]] and not TERMINAL[redis.call('HGET', key_of(r[2]), 'state') or 'done'] then
    if r[2] ~= ARGV[5] then close_record(ARGV[5], 'failed') end
    fail_job(r[2], ARGV[6])
  end
end
return entry
