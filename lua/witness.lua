--[[
Appends an audit event about something that changes nothing here: a credential that is given out.

Guarantees  Nothing is witnessed of who knows of other revocations than are stored: he may be dead.
KEYS  1 audit STREAM  2 audit-head STRING  3 scope STRING  4 revocation-head HASH
ARGV  1 now ms (tests only, else '')  2 most audit events kept  3 event  4 by whom  5 about (JSON)
      6 number of revocations known
Returns  now
  or error STALEREVOCATIONS <number stored>
]]
local stale = revocations_stale(KEYS[3], KEYS[4], ARGV[6])
if stale then return stale end
local now = now_ms(ARGV[1])
audit_append(KEYS[1], KEYS[2], ARGV[2], {
  'event', ARGV[3], 'at', string.format('%d', now), 'by', ARGV[4], 'about', ARGV[5],
})
return now
