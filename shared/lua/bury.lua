-- A message that cannot be run: keep it, with the reason. A job that was recorded with this very message ends; a broken
-- message that only bears the id of a job does the job no harm.
--
-- ARGV  1 prefix  2 queue  3 reason  4 message as text  5 job id or ''  6 fault (JSON)  7 message as bytes
-- Gives the entry's id
local entry = bury(ARGV[2], ARGV[5], '', ARGV[3], ARGV[4])
if ARGV[5] ~= '' then
  local r, root = redis.call('HMGET', key_of(ARGV[5]), 'state', 'env'), root_of(ARGV[5])
  if r[2] == ARGV[7] and not TERMINAL[r[1]] and not TERMINAL[redis.call('HGET', key_of(root), 'state') or 'done'] then
    if root ~= ARGV[5] then close_record(ARGV[5], 'failed') end
    fail_job(root, ARGV[6])
  end
end
return entry
