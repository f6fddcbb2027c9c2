--[[
Somebody holds revocations that are not here: they were lost. Everybody hears of it, those too who never held them,
until an operator acknowledges it.

Guarantees
  - Nothing is noted of a set that is not the one the caller compared with: it may have been acknowledged since.
  - One loss is one audit event, however many notice it.

KEYS  1 scope STRING  2 revocation-head HASH  3 audit STREAM  4 audit-head STRING
ARGV  1 now ms (tests only, else '')  2 channel of policies  3 most audit events kept  4 an epoch, should there be none
      5 by whom  6 about (JSON)  7 the loss's name, unique  8 number of the set that lacks something
Returns  1 if it was noted, 0 if it was known, or the set is another
]]
local scope_key, head_key = KEYS[1], KEYS[2]
local call, now = redis.call, now_ms(ARGV[1])
local number, epoch, _, lost = revocations_read(scope_key, head_key)
if lost ~= '' or number ~= tonumber(ARGV[8]) then return 0 end
audit_append(KEYS[3], KEYS[4], ARGV[3], {
  'event', 'revocations.lost', 'at', string.format('%d', now), 'by', ARGV[5], 'about', ARGV[6],
  'revocations', string.format('%d', revocations_next(number, ARGV[7])),
})
if epoch == '' then call('HSET', head_key, 'epoch', ARGV[4]) end
call('HSET', head_key, 'lost', ARGV[7])
revocations_advance(scope_key, head_key, number, ARGV[7], ARGV[2])
return 1
