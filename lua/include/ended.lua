--- The stream of ends: what became of what an agent was let do for somebody, one event each. A chain like that of the
-- audit events, and apart from it, because agents end what they like as often as they like: among the audit events that
-- would soon be all there is.

--- The event of an end, for `audit_append_all`. `about` is what Rust knows of it, as JSON without its opening brace.
local function ended_event(event, status, by, about, now)
  return { 'event', event, 'at', string.format('%d', now), 'by', by, 'about', '{"status":"' .. status .. '",' .. about }
end

--- Whether ends can be recorded now. Where not, whoever ends several goes on with those that need no record.
local function ends_recordable(ended_key, head_key)
  local length, head = redis.pcall('XLEN', ended_key), redis.pcall('GET', head_key)
  return type(length) == 'number' and (not head or type(head) == 'string' and #head >= 8)
end
