# What every node has. `node['greenroom']` comes from Greenroom; without it the node stands alone.
here = {
  'service' => '', 'role' => '', 'node' => node['hostname'], 'environment' => '', 'nodes' => []
}.merge(node['greenroom'].to_h)

group node['greenroom_base']['user'] do
  system true
end

user node['greenroom_base']['user'] do
  comment 'Greenroom'
  gid node['greenroom_base']['user']
  home '/var/lib/greenroom'
  shell '/usr/sbin/nologin'
  system true
  manage_home false
end

%w(/etc/greenroom /var/lib/greenroom /usr/local/lib/greenroom).each do |path|
  directory path do
    owner 'root'
    group 'root'
    mode '0755'
    recursive true
  end
end

file '/etc/greenroom/node.json' do
  content "#{Chef::JSONCompat.to_json_pretty(here)}\n"
  mode '0644'
end

file '/etc/timezone' do
  content "#{node['greenroom_base']['timezone']}\n"
  mode '0644'
end

file '/etc/motd' do
  content "#{here['service']} #{here['node']} (#{here['role']}) of #{here['environment']}\n#{node['greenroom_base']['motd']}\n"
  mode '0644'
end

cookbook_file '/usr/local/lib/greenroom/supervise' do
  source 'supervise'
  mode '0755'
end
