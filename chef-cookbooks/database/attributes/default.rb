default['database']['name'] = 'shop'
default['database']['port'] = 7000
default['database']['max_keys'] = 10_000
