-- wrk -s wrk.lua URL [-- SHARE MILLISECONDS [FILE]]
--
-- Prints what was answered as one line of JSON. With SHARE above 0, that share of the requests waits before it is sent, so that the
-- rate can be set. With FILE, the requests go through its lines, paths of one site, in turn.

function init(args)
  local share, wait = tonumber(args[1] or "0"), tonumber(args[2] or "0")
  if share > 0 then
    math.randomseed(os.time())
    function delay()
      return math.random() < share and wait or 0
    end
  end
  if args[3] then
    local requests, at = {}, 0
    for path in io.lines(args[3]) do
      requests[#requests + 1] = wrk.format("GET", path)
    end
    function request()
      at = at % #requests + 1
      return requests[at]
    end
  end
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '\n{"answered":%d,"seconds":%.6f,"broken":%d,"refused":%d,"p99":%.6f}\n',
    summary.requests, summary.duration / 1e6, errors.connect + errors.read + errors.write + errors.timeout, errors.status,
    latency:percentile(99) / 1e6
  ))
end
