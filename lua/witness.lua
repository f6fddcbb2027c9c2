--[[
Appends an audit event about something that changes nothing here: what was minted, what was refused for good.

KEYS  1 audit STREAM  2 audit-head STRING
ARGV  1 now ms (tests only, else '')  2 most audit events kept  3 event  4 by whom  5 about (JSON)
Returns  now
]]
local now = now_ms(ARGV[1])
audit_append(KEYS[1], KEYS[2], ARGV[2], {
  'event', ARGV[3], 'at', string.format('%d', now), 'by', ARGV[4], 'about', ARGV[5],
})
return now
