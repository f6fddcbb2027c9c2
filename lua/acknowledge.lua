--[[
An operator has seen that revocations were lost with the data that held them, and that those which still matter have
been made again: whoever refuses delegated callers because of the loss goes on.

KEYS  1 scope STRING  2 revocation-head HASH  3 audit STREAM  4 audit-head STRING
ARGV  1 now ms (tests only, else '')  2 channel of policies  3 most audit events kept  4 an epoch, should there be none
      5 by whom  6 about (JSON)  7 the acknowledgement's name, unique
Returns  the number of revocations stored now
]]
local scope_key, head_key = KEYS[1], KEYS[2]
local call, now = redis.call, now_ms(ARGV[1])
local number, epoch = revocations_read(scope_key, head_key)
-- First: nobody is served again where it cannot be recorded, and no script takes back what it wrote.
audit_append(KEYS[3], KEYS[4], ARGV[3], {
  'event', 'revocations.acknowledged', 'at', string.format('%d', now), 'by', ARGV[5], 'about', ARGV[6],
  'revocations', string.format('%d', revocations_next(number, ARGV[7])),
})
if epoch == '' then call('HSET', head_key, 'epoch', ARGV[4]) end
call('HSET', head_key, 'acknowledged', ARGV[7])
call('HDEL', head_key, 'lost')
return revocations_advance(scope_key, head_key, number, ARGV[7], ARGV[2])
