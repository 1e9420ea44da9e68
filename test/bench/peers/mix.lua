-- Every twentieth request takes 30 ms of CPU, the others 1 ms.
local count = 0
function request()
  count = count + 1
  return wrk.format(nil, count % 20 == 0 and "/cpu?ms=30" or "/cpu?ms=1")
end
