ExUnit.start(max_cases: 1, timeout: 120_000)
