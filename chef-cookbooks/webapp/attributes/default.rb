default['webapp']['name'] = 'shop'
default['webapp']['port'] = 8080
default['webapp']['database_role'] = 'db'
default['webapp']['database_port'] = 7000
