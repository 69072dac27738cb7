default['greenroom_base']['user'] = 'greenroom'
default['greenroom_base']['timezone'] = 'Etc/UTC'
default['greenroom_base']['motd'] = 'This node is thrown away when its lease ends.'
