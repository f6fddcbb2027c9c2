--- The breaker of a task kind, packed into one string: {state, until ms, epoch, probes out, probes passed, window}.
-- An absent key is a closed breaker that has seen nothing. The window, kept only while closed, is a list of tenths of
-- it: [start ms (8)][attempts (4)][failures (4)][slow (4)], oldest first, at most ten. What a breaker goes by (length
-- of the window, rates, probes) is the policy's and not stored.
local CLOSED, OPEN, HALF_OPEN = 0, 1, 2
local BREAKER_HEAD = '<BddHH'
local TENTH = '<dI4I4I4'

--- {state, until_ms, epoch, probes_out, probes_passed, tenths}; an open breaker whose time is over is half-open.
local function breaker_unpack(packed, now)
  if not packed then return { CLOSED, 0, 0, 0, 0, '' } end
  local state, until_ms, epoch, out, passed, at = struct.unpack(BREAKER_HEAD, packed)
  if state == OPEN and now >= until_ms then
    -- The half-open phase is named after the moment it began: no two phases of a kind share a name, even if the key
    -- had expired between them.
    return { HALF_OPEN, 0, until_ms, 0, 0, '' }
  end
  return { state, until_ms, epoch, out, passed, string.sub(packed, at) }
end

local function breaker_pack(b)
  return struct.pack(BREAKER_HEAD, b[1], b[2], b[3], b[4], b[5]) .. b[6]
end
