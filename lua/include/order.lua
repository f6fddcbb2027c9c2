--- The order of the queue: start-time fair queueing between user types.
-- Each task gets a start tag; the smallest tag runs next. A type's tags are `increment` (inverse to its weight) apart,
-- and begin at the virtual time, the tag of the task last handed out: so types share in proportion to their weights,
-- a type that was idle earns nothing by it, and none starves. All of the queue's order is decided here.

--- The start tag of the next task of a type whose last finish tag is `finish`, and the type's new finish tag.
local function order_next(virtual, finish, increment)
  local start = math.max(virtual, finish)
  return start, start + increment
end

--- Tag of a task that goes before everything: one handed back, or one whose lease lapsed.
local ORDER_FIRST = '0'
